"""`aem-eval view`: one HTML file to browse a run's episodes, or two runs side by side. Offline, and read-only."""

from aem_agent.viewer.build import ViewerError, write_comparison, write_view
from aem_agent.viewer.sources import is_training, records_in_order

__all__ = ["ViewerError", "is_training", "records_in_order", "write_comparison", "write_view"]
