"""What a notebook uses: cohorts, runs and registration by short names. `import remind` offers it all."""
