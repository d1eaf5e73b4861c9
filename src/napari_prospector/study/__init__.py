"""Many slides: cohorts and what is said about them."""
