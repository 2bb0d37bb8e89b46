"""Who is who: the cluster's CA, bootstrap tokens, requests, certificates, and their files.

Knows no socket and no cluster state. Nothing here puts a key or a token line into a message, a log
or a repr.
"""
