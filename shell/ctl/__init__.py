"""`sqlfront ctl`: asks a cluster and steers it, through the placement driver's service and the stores' own."""
