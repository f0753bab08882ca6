package main

import (
	"slices"
	"testing"
)

func TestBytesAreWrittenInManyWays(t *testing.T) {
	for s, want := range map[string]int64{
		"": 0, "4096": 4096, "64m": 64 << 20, "64M": 64 << 20, "64Mi": 64 << 20, "1k": 1 << 10, "1Ki": 1 << 10, "2g": 2 << 30, "2Gi": 2 << 30, "1t": 1 << 40, "3T": 3 << 40,
	} {
		if got, err := parseBytes(s); err != nil || got != want {
			t.Errorf("parseBytes(%q) = %d, %v, want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"0", "-1", "m", "1i", "1mm", "1mb", "1.5g", "0x10", "9999999t", " 1m", "1 m"} {
		if got, err := parseBytes(s); err == nil {
			t.Errorf("parseBytes(%q) = %d, want an error", s, got)
		}
	}
}

func TestVariablesOfTheCallerArePassedByName(t *testing.T) {
	t.Setenv("RKT_TEST_SET", "a=b c")
	t.Setenv("RKT_TEST_EMPTY", "")
	got, err := environmentOf(nil, []string{"RKT_TEST_SET", "RKT_TEST_EMPTY", "RKT_TEST_UNSET", "X=1"})
	if want := []string{"RKT_TEST_SET=a=b c", "RKT_TEST_EMPTY=", "X=1"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("environmentOf() = %q, %v, want %q", got, err, want)
	}
	for _, vars := range [][]string{{""}, {"=x"}, {"X=1", "X=2"}, {"RKT_TEST_SET", "RKT_TEST_SET=1"}} {
		if got, err := environmentOf(nil, vars); err == nil {
			t.Errorf("environmentOf(%q) = %q, want an error", vars, got)
		}
	}
}
