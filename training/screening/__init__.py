"""Makes the classifier that screening uses beside its rules: `python -m training.screening train`."""
