# What the cluster is made of. Raise them together: kubeadm names the versions of etcd and CoreDNS that it
# asks for (`kubeadm config images list`), and the node image refuses to be built from others.

KUBERNETES_VERSION=v1.34.2
ETCD_VERSION=v3.6.5
COREDNS_VERSION=v1.12.1
KIND_VERSION=v0.30.0
HELM_VERSION=v3.19.2
