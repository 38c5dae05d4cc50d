"""What a run tells the people who follow it: records, folder, tables, progress."""
