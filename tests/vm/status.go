package main

import (
	"fmt"
	"strings"
)

// judge reads what a guest said of its packages: lines of the folder, the exit
// code and the seconds it took. Nil means that each that was asked for passed.
func judge(status string, o options) error {
	packages := o.packages
	if o.command != "" {
		packages = []string{"command"}
	}
	said := map[string]string{}
	for line := range strings.Lines(status) {
		if f := strings.Fields(line); len(f) == 3 {
			said[f[0]] = f[1]
			fmt.Printf("vm: %s: exit code %s after %s s\n", f[0], f[1], f[2])
		}
	}
	var bad []string
	for _, p := range packages {
		switch code, ok := said[strings.TrimPrefix(strings.TrimSuffix(p, "/"), "./")]; {
		case !ok:
			bad = append(bad, p+" did not end")
		case code != "0":
			bad = append(bad, p+" failed")
		}
	}
	if len(bad) > 0 {
		return fmt.Errorf("%s", strings.Join(bad, ", "))
	}
	return nil
}
