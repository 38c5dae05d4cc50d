"""What every long-running end needs of the machine: private files, locks, programs kept running, a health page."""
