"""What learns: the generators, how histories become their input, and how they are trained."""
