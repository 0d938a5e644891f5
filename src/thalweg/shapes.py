"""The words used for axes in every signature.

========  =====================================================================
``batch``  prompts of one forward pass
``token``  positions of one prompt, 0..T-1; padding is never counted
``query``, ``key``  positions as rows and columns of an attention map
``head``   query heads; under grouped queries several share a ``group`` (key/value head)
``width``  the residual stream, d
``depth``  one head's key dimension; ``breadth`` its value dimension
``rank``   r = min(T, d)
``state``  0..L, the residual stream between blocks; ``block`` 0..L-1
========  =====================================================================

A shape is written with jaxtyping, ``Float[Tensor, "batch head query key"]``, and enforced in the tests only.
"""

from jaxtyping import Bool, Float, Int

__all__ = ["Bool", "Float", "Int"]
