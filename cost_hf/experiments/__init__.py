"""What runs recipes: runs, comparisons and checks of data."""
