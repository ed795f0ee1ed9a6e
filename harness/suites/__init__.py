"""The suites that come with the project, one TOML file each; `harness.suite` reads them."""
