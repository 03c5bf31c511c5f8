"""Percolator transactions on TiKV's records, as they run below a wire or a Raft log.

`actions` are pure functions per key over a reader into a `Changes` buffer; `commands` wrap them, one for each request;
`deadlock` is the graph of who waits for whom. A store of a cluster runs commands under latches, with lock waits
(`kvstore.server.scheduler`); the embedded store takes short cuts that leave the same records
(`kvstore.client.embedded`).
"""
