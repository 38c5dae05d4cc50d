"""What a check of a cohort says, and pictures of it."""
