"""The run store: a database that the strategy writes as rounds finish, and that the dashboard reads."""
