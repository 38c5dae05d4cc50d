"""`remind analyze`: analysis of one trained model (algorithm §6; the paper's Fig. 1b, 3, 4), as JSON and as a page."""
