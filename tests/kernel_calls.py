"""Kernels run by Triton's interpreter, which ignores an argument that a compiler would refuse."""

import pytest

OF_A_LAUNCH = {"grid", "warmup", "num_warps", "num_stages"}


@pytest.fixture(autouse=True)
def arguments_are_those_of_the_kernel(monkeypatch):
    """Whatever is launched is given the arguments that it has."""
    interpreter = pytest.importorskip("triton.runtime.interpreter", reason="triton is not installed")
    run = interpreter.InterpretedFunction.run

    def checked(self, *args, **kwargs):
        unknown = set(kwargs) - set(self.arg_names) - OF_A_LAUNCH
        assert not unknown, f"{self.fn.__name__} has no {unknown}"
        return run(self, *args, **kwargs)

    monkeypatch.setattr(interpreter.InterpretedFunction, "run", checked)
