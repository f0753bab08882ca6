package generator

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"rkt/stage0/quadlet"
	"rkt/stage0/quadlet/kube"
)

// WriteFiles writes what a pod of a .kube file needs as files: those of its
// ConfigMaps and Secrets, and the variables that are secret. dir exists and is
// nobody else's; paths are the YAML files.
func WriteFiles(dir string, paths []string) error {
	var files []kube.File
	for _, p := range paths {
		text, err := readRegular(p, os.Geteuid())
		if err != nil {
			return fmt.Errorf("read %s: %w", p, err)
		}
		files = append(files, kube.File{Path: p, Text: text})
	}
	pod, err := kube.Read(files)
	if err != nil {
		return err
	}
	for _, v := range pod.Volumes {
		if v.Kind != kube.VolumeFiles {
			continue
		}
		root := filepath.Join(dir, quadlet.FilesOfVolumes, v.Name)
		err = errors.Join(err, os.MkdirAll(root, 0o755))
		for _, f := range v.Files {
			err = errors.Join(err, writeFile(filepath.Join(root, f.Path), f.Data, f.Mode))
		}
	}
	for _, c := range pod.Containers {
		var lines strings.Builder
		for _, v := range c.Env {
			if v.Secret {
				lines.WriteString(v.Name + "=" + v.Value + "\n")
			}
		}
		if lines.Len() > 0 {
			err = errors.Join(err, writeFile(filepath.Join(dir, quadlet.FilesOfEnvironment, c.Name), []byte(lines.String()), 0o600))
		}
	}
	return err
}

// writeFile makes a file with a mode, whatever the umask is, and the folders
// above it.
func writeFile(path string, data []byte, mode uint32) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return err
	}
	return unix.Chmod(path, mode)
}
