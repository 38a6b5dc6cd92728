"""Fitting codes to item vectors: the seam of a quantizer, the kinds of this package, and the training they share.

Modules of this package are imported to find the kinds of codes, before a command knows whether it needs torch: they
import torch inside functions. Folder `training` holds what needs it, `cost` the model as a closure for the Hub.
"""
