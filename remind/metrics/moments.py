"""What is added up of numbers and their predictions (`remind.metrics.regression`); apart, as scores need scipy."""

MOMENTS = ("scale", "e1", "e2", "e4", "y", "y2", "y3", "y4", "p", "p2", "yp", "e2y", "e2y2")
