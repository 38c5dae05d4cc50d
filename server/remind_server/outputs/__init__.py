"""What a run reports: records, the results folder, tables, progress."""
