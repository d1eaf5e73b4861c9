"""The face in napari, alone in knowing Qt and napari."""
