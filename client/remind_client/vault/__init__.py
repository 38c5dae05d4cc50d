"""The vault: encryption of the files that a site stores."""
