"""Updates of a finished run with the clicks and items of another day, and the way back."""
