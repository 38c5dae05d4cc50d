"""What of real patients may be published: the minimum count, and which numbers to withhold so that it holds."""
