"""What may be published of real patients: the minimum count, and which numbers to suppress so that it holds."""
