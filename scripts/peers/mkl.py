"""Import before torch. MKL, which PyTorch's wheels carry, keeps to AVX2 on processors that are not Intel's: matrix products at less
than half of the rate where there is AVX-512. A comparison should not live on that, so the two functions that MKL asks are
answered here. Needs a C compiler; MKL_KERNELS=installed leaves MKL as it is.
"""

import ctypes
import os
import subprocess
import tempfile

SOURCE = "int mkl_serv_intel_cpu(void) { return 1; } int mkl_serv_intel_cpu_true(void) { return 1; }"


def _open():
    """@returns which kernels MKL then has"""
    with open("/proc/cpuinfo") as info:
        if "GenuineIntel" in info.read():
            return "its own"
    if os.environ.get("MKL_KERNELS") == "installed":
        return "as installed"
    with tempfile.TemporaryDirectory() as folder:
        library = f"{folder}/mkl.so"
        command = ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", library]
        try:
            subprocess.run(command, input=SOURCE, text=True, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            return "as installed (no C compiler)"
        ctypes.CDLL(library, ctypes.RTLD_GLOBAL)
    return "as on Intel"


KERNELS = _open()
