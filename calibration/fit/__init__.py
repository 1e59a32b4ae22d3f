"""From probe frames to a channel: averages, forms of gain and crosstalk, the fits, and frames to leave out."""
