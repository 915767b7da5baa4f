from assay_adapter_cpu.testing import cpu_adapter, cpu_model

__all__ = ["cpu_adapter", "cpu_model"]
