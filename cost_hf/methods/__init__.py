"""Published systems, one folder or module each; `base.Method` is what they have in common."""
