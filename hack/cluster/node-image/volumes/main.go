// Command volumes gives claims of the storage class "standard" a folder of this node: what a claim on
// kind's published node image gets from its provisioner. It runs as a service in the node.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	kubeconfig  = "/etc/kubernetes/admin.conf"
	folders     = "/var/lib/volumes"
	class       = "standard"
	provisioner = "strongroom.dev/folder"
	// What could not be done is tried again this often.
	resync = 10 * time.Second
)

func main() {
	for {
		if _, err := os.Stat(kubeconfig); err == nil {
			break
		}
		time.Sleep(time.Second)
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		log.Fatal(err)
	}
	node, err := os.Hostname()
	if err != nil {
		log.Fatal(err)
	}
	kube := kubernetes.NewForConfigOrDie(config)
	factory := informers.NewSharedInformerFactory(kube, resync)
	on(factory.Core().V1().PersistentVolumeClaims().Informer(), func(ctx context.Context, object any) error {
		return provide(ctx, kube, node, object.(*core.PersistentVolumeClaim))
	})
	on(factory.Core().V1().PersistentVolumes().Informer(), func(ctx context.Context, object any) error {
		return reclaim(ctx, kube, object.(*core.PersistentVolume))
	})
	factory.Start(context.Background().Done())
	select {}
}

func on(informer cache.SharedIndexInformer, act func(context.Context, any) error) {
	handle := func(object any) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := act(ctx, object); err != nil {
			log.Print(err)
		}
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    handle,
		UpdateFunc: func(_, object any) { handle(object) },
	})
	if err != nil {
		log.Fatal(err)
	}
}

// provide makes the folder and the volume of a claim whose pod was scheduled.
func provide(ctx context.Context, kube kubernetes.Interface, node string, claim *core.PersistentVolumeClaim) error {
	if claim.Spec.StorageClassName == nil || *claim.Spec.StorageClassName != class || claim.Spec.VolumeName != "" ||
		claim.DeletionTimestamp != nil || claim.Annotations["volume.kubernetes.io/selected-node"] != node {
		return nil
	}
	name := "pvc-" + string(claim.UID)
	folder := filepath.Join(folders, name)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	// Any user of a pod may write, as with kind's published node image.
	if err := os.Chmod(folder, 0o777); err != nil {
		return err
	}
	volume := &core.PersistentVolume{
		ObjectMeta: meta.ObjectMeta{
			Name:        name,
			Annotations: map[string]string{"pv.kubernetes.io/provisioned-by": provisioner},
		},
		Spec: core.PersistentVolumeSpec{
			Capacity:                      core.ResourceList{core.ResourceStorage: claim.Spec.Resources.Requests[core.ResourceStorage]},
			AccessModes:                   claim.Spec.AccessModes,
			PersistentVolumeReclaimPolicy: core.PersistentVolumeReclaimDelete,
			StorageClassName:              class,
			VolumeMode:                    claim.Spec.VolumeMode,
			PersistentVolumeSource:        core.PersistentVolumeSource{Local: &core.LocalVolumeSource{Path: folder}},
			ClaimRef: &core.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID,
			},
			NodeAffinity: &core.VolumeNodeAffinity{Required: &core.NodeSelector{NodeSelectorTerms: []core.NodeSelectorTerm{{
				MatchExpressions: []core.NodeSelectorRequirement{{
					Key: core.LabelHostname, Operator: core.NodeSelectorOpIn, Values: []string{node},
				}},
			}}}},
		},
	}
	_, err := kube.CoreV1().PersistentVolumes().Create(ctx, volume, meta.CreateOptions{})
	if err != nil && !errors.IsAlreadyExists(err) {
		return fmt.Errorf("volume for claim %s/%s: %w", claim.Namespace, claim.Name, err)
	}
	return nil
}

// reclaim removes a volume of ours, and its folder, once its claim is gone.
func reclaim(ctx context.Context, kube kubernetes.Interface, volume *core.PersistentVolume) error {
	if volume.Annotations["pv.kubernetes.io/provisioned-by"] != provisioner ||
		volume.Status.Phase != core.VolumeReleased || volume.DeletionTimestamp != nil ||
		volume.Spec.PersistentVolumeReclaimPolicy != core.PersistentVolumeReclaimDelete {
		return nil
	}
	if err := os.RemoveAll(filepath.Join(folders, volume.Name)); err != nil {
		return err
	}
	err := kube.CoreV1().PersistentVolumes().Delete(ctx, volume.Name, meta.DeleteOptions{})
	if err != nil && !errors.IsNotFound(err) {
		return fmt.Errorf("deletion of volume %s: %w", volume.Name, err)
	}
	return nil
}
