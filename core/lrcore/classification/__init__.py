"""Sort particles into classes of the refined body at fixed poses, and choose the number of classes."""
