"""Remote calls between processes: one seam, carried by gRPC or by an in-memory network."""
