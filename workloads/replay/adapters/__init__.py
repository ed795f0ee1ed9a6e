"""The replay buffer in other frameworks; each module needs the framework of its name, and nothing imports them here."""
