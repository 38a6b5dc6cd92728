"""Fitting codes to item vectors: the seam of a quantizer, the kinds of this package, and the training they share.

Modules that register kinds of codes are imported before a command knows whether it needs torch, so they import torch
inside functions. Folder `training` holds the modules that need it, `cost` the model as a closure for the Hub.
"""
