"""What networks of others need, and trainings through them: files of weights, images with objects, half precision."""
