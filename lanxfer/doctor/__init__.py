"""Why a device is not seen, or is slow, in words (docs/doctor.rst)."""
