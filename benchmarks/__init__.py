"""One file per promise; each prints ratios to its bar."""
