package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
)

// parseBytes parses a number of bytes with an optional unit K, M, G, T, each
// 1024 of the one before, written k, m, ... and Ki, Mi, ... as well. "" is 0.
func parseBytes(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	number := strings.TrimSuffix(strings.ToUpper(s), "I")
	shift := 0
	for i, unit := range []string{"K", "M", "G", "T"} {
		if n, ok := strings.CutSuffix(number, unit); ok {
			number, shift = n, 10*(i+1)
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || shift == 0 && len(number) != len(s) {
		return 0, fmt.Errorf("%q is not a number of bytes; write 128M or 1G", s)
	}
	if n <= 0 || n > math.MaxInt64>>shift {
		return 0, fmt.Errorf("%q is out of range", s)
	}
	return n << shift, nil
}

// parseMillis parses a number of processors as thousandths: 2, 0.5 or 500m.
func parseMillis(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	const limit = 1 << 20 // processors
	if m, ok := strings.CutSuffix(s, "m"); ok {
		n, err := strconv.ParseInt(m, 10, 64)
		if err != nil || n <= 0 || n > limit*1000 {
			return 0, fmt.Errorf("%q is not a number of processors; write 2, 0.5 or 500m", s)
		}
		return n, nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f > 0 && f <= limit) {
		return 0, fmt.Errorf("%q is not a number of processors; write 2, 0.5 or 500m", s)
	}
	return int64(math.Round(f * 1000)), nil
}

// maxEnvFile bounds a file of variables; the kernel takes no more than 6 MiB of
// arguments and environment together.
const maxEnvFile = 6 << 20

// environmentOf are the variables of files, then those of the command line,
// which replace them. Naming one twice in the same place is a mistake.
func environmentOf(files, vars []string) ([]string, error) {
	var all []string
	for _, file := range files {
		lines, err := readEnvFile(file)
		if err != nil {
			return nil, fmt.Errorf("--env-file: %w", err)
		}
		all = append(all, lines...)
	}
	vars, err := variables(vars)
	if err != nil {
		return nil, fmt.Errorf("--environment: %w", err)
	}
	return append(all, vars...), nil
}

// variables are the values of --environment: NAME=VALUE, or NAME for the
// caller's own value. One that the caller has not set is left out.
func variables(words []string) ([]string, error) {
	var vars []string
	for _, w := range words {
		if strings.Contains(w, "=") || w == "" {
			vars = append(vars, w)
		} else if value, ok := os.LookupEnv(w); ok {
			vars = append(vars, w+"="+value)
		}
	}
	return vars, onceEach(vars)
}

// readEnvFile reads lines NAME=VALUE. Empty lines and those that begin with "#"
// or ";" are skipped; nothing is quoted.
func readEnvFile(name string) ([]string, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxEnvFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxEnvFile {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, maxEnvFile)
	}
	var vars []string
	number := 0
	for line := range strings.Lines(string(b)) {
		number++
		line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
		if t := strings.TrimSpace(line); t == "" || t[0] == '#' || t[0] == ';' {
			continue
		}
		if name, _, ok := strings.Cut(line, "="); !ok || strings.TrimSpace(name) == "" {
			return nil, fmt.Errorf("%s: line %d is not NAME=VALUE", f.Name(), number)
		}
		vars = append(vars, line)
	}
	if err := onceEach(vars); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return vars, nil
}

func onceEach(vars []string) error {
	seen := make(map[string]bool, len(vars))
	for _, v := range vars {
		name, _, ok := strings.Cut(v, "=")
		if !ok || name == "" {
			return fmt.Errorf("environment variable %q is not NAME=VALUE", v)
		}
		if seen[name] {
			return errors.New("environment variable " + strconv.Quote(name) + " is given twice")
		}
		seen[name] = true
	}
	return nil
}
