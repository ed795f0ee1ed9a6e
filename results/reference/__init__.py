"""The figures that the two papers published, as TOML files; installed as `harness.reference`."""
