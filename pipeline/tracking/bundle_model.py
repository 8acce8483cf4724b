"""What models that were registered before `pipeline.pyfunc` name as their loader; kept for one release."""

from pipeline.pyfunc import _load_pyfunc as _load_pyfunc
