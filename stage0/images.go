package stage0

import (
	"context"
	"errors"
	"fmt"

	"rkt/cas"
	"rkt/stage0/pod"
	"rkt/stage1/contract"
)

// PodRoots returns what the pods keep from being swept: the layers, the config
// and the manifest of every app, whatever became of the pod, since a pod that is
// over may be looked at until it is collected. An app that cannot be read is an
// error unless its pod is over: sweeping its layers could break it.
func PodRoots(pods *pod.Dir) (cas.Roots, error) {
	roots := cas.Roots{}
	err := pods.Walk(nil, func(p *pod.Pod) error {
		names, err := p.AppNames()
		if err != nil {
			return err
		}
		for _, name := range names {
			a, err := p.App(name)
			if err == nil {
				err = addRoots(roots, p.UUID(), a)
			}
			if err == nil {
				continue
			}
			if err := tolerable(p, name, err); err != nil {
				return err
			}
		}
		return nil
	})
	return roots, err
}

// addRoots adds what an app needs.
func addRoots(roots cas.Roots, id pod.UUID, a *contract.App) error {
	reason := fmt.Sprintf("app %q of pod %s", a.Name, id)
	add := func(d cas.Digest) { roots[d] = append(roots[d], reason) }
	for _, layer := range a.Layers {
		d, err := cas.FromHex(layer)
		if err != nil {
			return err
		}
		add(d)
	}
	for _, text := range []string{a.Image.ID, a.Image.Manifest} {
		if text == "" {
			continue // a pod from an image without a manifest of its own
		}
		d, err := cas.ParseDigest(text)
		if err != nil {
			return err
		}
		add(d)
	}
	return nil
}

// tolerable decides about an app that cannot be read: nil when it needs nothing.
func tolerable(p *pod.Pod, app string, err error) error {
	state, stateErr := p.State()
	switch {
	case errors.Is(stateErr, pod.ErrNotFound), stateErr == nil && state.Over():
		return nil
	case state == pod.Embryo, state == pod.Preparing, state == pod.Deleting:
		// Being written, by somebody who holds the store until it is done and
		// mounts nothing before; or being removed.
		return nil
	}
	return fmt.Errorf("cannot tell what app %q of pod %s needs: %w", app, p.UUID(), errors.Join(err, stateErr))
}

// ImageRoots returns what is reachable in the image store: from image records
// and from pods.
func ImageRoots(env *Env) (cas.Roots, error) {
	roots, err := env.Images.Roots()
	if err != nil {
		return nil, err
	}
	pods, err := PodRoots(env.Pods)
	if err != nil {
		return nil, err
	}
	if roots == nil {
		roots = cas.Roots{}
	}
	for d, reasons := range pods {
		roots[d] = append(roots[d], reasons...)
	}
	return roots, nil
}

// GCImages removes the blobs, and what was derived from them, that no image, pod
// or ingest needs, and returns what became of each blob and why. With dryRun it
// removes nothing.
func GCImages(ctx context.Context, env *Env, dryRun bool) ([]cas.Swept, error) {
	if !dryRun && env.Layers != nil {
		if err := releaseLayers(ctx, env); err != nil {
			return nil, err
		}
	}
	swept, err := env.Images.CAS().Sweep(ctx, func(context.Context) (cas.Roots, error) { return ImageRoots(env) }, dryRun)
	if err != nil {
		return swept, fmt.Errorf("sweep images: %w", err)
	}
	if !dryRun && env.Layers != nil {
		if err := env.Layers.SweepRecords(ctx); err != nil {
			return swept, fmt.Errorf("remove records of layers: %w", err)
		}
	}
	return swept, nil
}

// releaseLayers unmounts the layers that no pod is or can be started from.
func releaseLayers(ctx context.Context, env *Env) error {
	var needed cas.Roots
	var err error
	known := false
	release := env.Layers.Release(ctx, func(d cas.Digest) bool {
		// Read when first asked, while nobody can pass Ensure: every pod that was
		// given mounts before has its apps on disk.
		if !known {
			known = true
			needed, err = PodRoots(env.Pods)
		}
		return err != nil || len(needed[d]) > 0
	})
	return errors.Join(err, release)
}
