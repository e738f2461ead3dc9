"""What networks that others trained need, and trainings through them: files of weights, targets, half precision."""
