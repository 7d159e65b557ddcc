"""Reports and pictures."""

from skvae.report.quality import QualityReport, evaluate

__all__ = ["QualityReport", "evaluate"]
