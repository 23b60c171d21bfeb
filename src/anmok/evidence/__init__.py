"""What a figure is worth: intervals, comparisons, groups, splits, controls. Numpy and scipy only."""
