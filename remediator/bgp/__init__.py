"""Who announces what by BGP, as Cilium's objects tell it: read, put together, judged. Pure but for ``read``.

``selector`` (label selectors, and which label change makes them let go) · ``objects`` and ``read`` (the cluster's objects and metrics) ·
``assemble`` (objects -> ``model.Routes``) · ``coverage`` (what would be left if a node or a peer went away) · ``gitops`` (who else writes).
Nothing here changes the cluster. Gates take ``model`` and ``coverage`` only, since they must not know a door.
"""
