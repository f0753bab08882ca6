package systemd

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/godbus/dbus/v5"
)

// Property is a property of a unit, typed as systemd wants it: (sv).
type Property struct {
	Name  string
	Value dbus.Variant
}

func value(name string, v any) Property { return Property{name, dbus.MakeVariant(v)} }

// infinity is systemd's "infinity" where a number is expected, and "not set".
const infinity = math.MaxUint64

// parser makes properties of a value that the operator wrote as in a unit file.
type parser func(name, text string) (Property, error)

// safe are the properties that can be set from outside: they limit a pod, or
// say what it is. None runs, mounts or opens anything.
func safe() map[string]parser {
	all := map[string]parser{
		"Description":    parseText,
		"TasksMax":       parseCount,
		"CPUQuota":       parseQuota,
		"CPUWeight":      parseWeight,
		"AllowedCPUs":    parseSet,
		"RuntimeMaxSec":  parseTime,
		"TimeoutStopSec": parseTime,
	}
	for _, name := range []string{"MemoryMin", "MemoryLow", "MemoryHigh", "MemoryMax", "MemorySwapMax", "MemoryZSwapMax"} {
		all[name] = parseSize
	}
	for _, name := range []string{"StartupCPUWeight", "IOWeight", "StartupIOWeight"} {
		all[name] = parseWeight
	}
	for _, name := range []string{"StartupAllowedCPUs", "AllowedMemoryNodes", "StartupAllowedMemoryNodes"} {
		all[name] = parseSet
	}
	for _, name := range []string{"IOReadBandwidthMax", "IOWriteBandwidthMax", "IOReadIOPSMax", "IOWriteIOPSMax", "IODeviceWeight"} {
		all[name] = parseDevice
	}
	for _, name := range []string{"CPUAccounting", "MemoryAccounting", "IOAccounting", "TasksAccounting", "IPAccounting"} {
		all[name] = parseBool
	}
	for _, name := range []string{"ManagedOOMSwap", "ManagedOOMMemoryPressure"} {
		all[name] = parseWord("auto", "kill")
	}
	return all
}

// ParseProperty parses NAME=VALUE as systemd-run(1) does, for the properties that
// limit or describe a pod. Others are refused by name.
func ParseProperty(text string) (Property, error) {
	name, v, ok := strings.Cut(text, "=")
	if !ok {
		return Property{}, fmt.Errorf("%q is not NAME=VALUE", text)
	}
	known := safe()
	parse, ok := known[name]
	if !ok {
		return Property{}, fmt.Errorf("property %q cannot be set, these can: %s", name, strings.Join(slices.Sorted(maps.Keys(known)), " "))
	}
	p, err := parse(name, strings.TrimSpace(v))
	if err != nil {
		return p, fmt.Errorf("property %s: %w", name, err)
	}
	return p, nil
}

// parseText takes one line of text.
func parseText(name, text string) (Property, error) {
	if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		return Property{}, fmt.Errorf("%q is not one line of text", text)
	}
	return value(name, text), nil
}

func parseBool(name, text string) (Property, error) {
	switch text {
	case "yes", "true", "on", "1":
		return value(name, true), nil
	case "no", "false", "off", "0":
		return value(name, false), nil
	}
	return Property{}, fmt.Errorf("%q is neither yes nor no", text)
}

func parseWord(words ...string) parser {
	return func(name, text string) (Property, error) {
		if !slices.Contains(words, text) {
			return Property{}, fmt.Errorf("%q is none of %s", text, strings.Join(words, ", "))
		}
		return value(name, text), nil
	}
}

// parseSize takes bytes with a suffix, a share of the host's memory, or infinity.
func parseSize(name, text string) (Property, error) {
	if p, ok, err := parseScale(name, text); ok {
		return p, err
	}
	n, err := size(text)
	return value(name, n), err
}

// parseCount takes a number, a share of what the host has, or infinity.
func parseCount(name, text string) (Property, error) {
	if p, ok, err := parseScale(name, text); ok {
		return p, err
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n == 0 || n == infinity {
		return Property{}, fmt.Errorf("%q is neither a number, a percentage nor infinity", text)
	}
	return value(name, n), nil
}

// parseScale takes infinity and percentages, which have a property of their own.
func parseScale(name, text string) (p Property, ok bool, err error) {
	if text == "infinity" {
		return value(name, uint64(infinity)), true, nil
	}
	if !strings.HasSuffix(text, "%") {
		return p, false, nil
	}
	percent, err := percentage(text)
	if err == nil && percent > 100 {
		err = fmt.Errorf("%q is more than all", text)
	}
	return value(name+"Scale", uint32(math.Round(percent/100*math.MaxUint32))), true, err
}

// parseQuota takes a percentage of one processor.
func parseQuota(name, text string) (Property, error) {
	percent, err := percentage(text)
	if err != nil || percent > 1e8 {
		return Property{}, fmt.Errorf("%q is not a percentage of one CPU, such as 150%%", text)
	}
	return value("CPUQuotaPerSecUSec", uint64(math.Round(percent/100*1e6))), nil
}

// percentage parses "12.5%". It is greater than zero.
func percentage(text string) (float64, error) {
	digits, ok := strings.CutSuffix(text, "%")
	n, err := strconv.ParseFloat(digits, 64)
	if !ok || err != nil || math.IsNaN(n) || math.IsInf(n, 0) || n <= 0 {
		return 0, fmt.Errorf("%q is not a percentage above zero", text)
	}
	return n, nil
}

// parseWeight takes 1 to 10000.
func parseWeight(name, text string) (Property, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n < 1 || n > 10000 {
		return Property{}, fmt.Errorf("%q is not a number from 1 to 10000", text)
	}
	return value(name, n), nil
}

// parseTime takes a duration; a number without a unit is seconds.
func parseTime(name, text string) (Property, error) {
	name = strings.TrimSuffix(name, "Sec") + "USec"
	if text == "infinity" {
		return value(name, uint64(infinity)), nil
	}
	d, err := time.ParseDuration(text)
	if n, numErr := strconv.ParseUint(text, 10, 32); numErr == nil {
		d, err = time.Duration(n)*time.Second, nil
	}
	if err != nil || d <= 0 {
		return Property{}, fmt.Errorf("%q is not a duration such as 90s", text)
	}
	return value(name, uint64(d.Microseconds())), nil
}

// maxIndex bounds the numbers of processors and memory nodes.
const maxIndex = 8192

// parseSet takes numbers and ranges, such as "0-3,7", as a bit mask.
func parseSet(name, text string) (Property, error) {
	var mask []byte
	for _, part := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' }) {
		first, last, ok := strings.Cut(part, "-")
		if !ok {
			last = first
		}
		from, err1 := strconv.ParseUint(first, 10, 32)
		to, err2 := strconv.ParseUint(last, 10, 32)
		if err1 != nil || err2 != nil || from > to || to >= maxIndex {
			return Property{}, fmt.Errorf("%q is not a list of numbers and ranges, such as 0-3,7", text)
		}
		for i := from; i <= to; i++ {
			for uint64(len(mask)) <= i/8 {
				mask = append(mask, 0)
			}
			mask[i/8] |= 1 << (i % 8)
		}
	}
	if mask == nil {
		return Property{}, fmt.Errorf("%q names nothing", text)
	}
	return value(name, mask), nil
}

// deviceLimit is the type of limits by device: (st).
type deviceLimit struct {
	Path  string
	Value uint64
}

// parseDevice takes a path and a limit for the device that it is on.
func parseDevice(name, text string) (Property, error) {
	path, v, ok := strings.Cut(text, " ")
	if !ok || !strings.HasPrefix(path, "/") {
		return Property{}, fmt.Errorf("%q is not a path and a value, such as /dev/sda 10M", text)
	}
	if _, err := parseText(name, path); err != nil {
		return Property{}, err
	}
	n, err := size(strings.TrimSpace(v))
	if err == nil && name == "IODeviceWeight" && (n < 1 || n > 10000) {
		err = fmt.Errorf("%q is not a number from 1 to 10000", v)
	}
	return value(name, []deviceLimit{{path, n}}), err
}

// size parses a number with a suffix K, M, G or T, or infinity.
func size(text string) (uint64, error) {
	if text == "infinity" {
		return infinity, nil
	}
	digits, shift := text, 0
	if i := strings.IndexAny(text, "KMGT"); i >= 0 && i == len(text)-1 {
		digits, shift = text[:i], 10*(1+strings.IndexByte("KMGT", text[i]))
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || n > (infinity-1)>>shift {
		return 0, fmt.Errorf("%q is not a size such as 512M", text)
	}
	return n << shift, nil
}
