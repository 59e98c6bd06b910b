package slurmconf

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Bounds of ExpandHostlist. Slurm's own largest range is 65,536 hosts; the product of
// several brackets may be larger, up to what is harmless in a hook's memory.
const (
	MaxHosts         = 1 << 20
	maxRangeHosts    = 65536
	maxHostBytes     = 255
	maxHostlistBytes = 1 << 20
)

// ExpandHostlist returns the host names of a Slurm hostlist, in its order, with
// repetitions: "c[1-3,5],login0" is c1 c2 c3 c5 login0. A name may have several
// brackets and text after them ("r[1-2]n[01-04]-ib", the last one counts fastest);
// numbers keep the width of the first one of their range. As in Slurm, names are separated
// by any number of commas and white space. The empty hostlist has no names. The error is
// one line.
func ExpandHostlist(hostlist string) ([]string, error) { return expand(hostlist, "-_.") }

// expandAddresses is ExpandHostlist of what may be IPv6 addresses too, as NodeAddr in
// slurm.conf: "fd00::[1-2]" is fd00::1 fd00::2.
func expandAddresses(list string) ([]string, error) { return expand(list, "-_.:") }

// expand is ExpandHostlist; a name may have letters, digits and the marks.
func expand(hostlist, marks string) ([]string, error) {
	if hostlist == "" {
		return nil, nil
	}
	if len(hostlist) > maxHostlistBytes {
		return nil, fmt.Errorf("hostlist is longer than %d KiB", maxHostlistBytes>>10)
	}
	var hosts []string
	for rest := hostlist; ; {
		var item string
		var more bool
		var err error
		if item, rest, more, err = cutHostItem(rest); err == nil && item != "" {
			hosts, err = appendHosts(hosts, item, marks)
		}
		if err != nil {
			return nil, errors.New(oneLine(fmt.Sprintf("hostlist %s: %v", quoted(hostlist), err)))
		}
		if !more {
			return hosts, nil
		}
	}
}

// cutHostItem splits off what is before the first separator outside brackets.
func cutHostItem(s string) (item, rest string, more bool, err error) {
	inBrackets := false
	for i := range len(s) {
		switch s[i] {
		case '[':
			if inBrackets {
				return "", "", false, errors.New(`"[" within brackets`)
			}
			inBrackets = true
		case ']':
			if !inBrackets {
				return "", "", false, errors.New(`"]" without "["`)
			}
			inBrackets = false
		case ',', ' ', '\t', '\n':
			if !inBrackets {
				return s[:i], s[i+1:], true, nil
			}
		}
	}
	if inBrackets {
		return "", "", false, errors.New(`"[" without "]"`)
	}
	return s, "", false, nil
}

// appendHosts expands one item, whose brackets match: each bracket multiplies the
// names made so far.
func appendHosts(hosts []string, item, marks string) ([]string, error) {
	names := []string{""}
	for rest := item; rest != ""; {
		text, after, hasBrackets := strings.Cut(rest, "[")
		if err := checkHostText(text, marks); err != nil {
			return nil, err
		}
		numbers := []string{""}
		if hasBrackets {
			var ranges string
			ranges, rest, _ = strings.Cut(after, "]")
			var err error
			if numbers, err = expandRanges(ranges); err != nil {
				return nil, err
			}
		} else {
			rest = ""
		}
		if len(hosts)+len(names)*len(numbers) > MaxHosts {
			return nil, errTooManyHosts
		}
		product := make([]string, 0, len(names)*len(numbers))
		for _, name := range names {
			for _, number := range numbers {
				if len(name)+len(text)+len(number) > maxHostBytes {
					return nil, fmt.Errorf("a name is longer than %d bytes", maxHostBytes)
				}
				product = append(product, name+text+number)
			}
		}
		names = product
	}
	return append(hosts, names...), nil
}

var errTooManyHosts = fmt.Errorf("more than %d hosts", MaxHosts)

// checkHostText refuses what no host name has: these names become parts of
// object names and paths.
func checkHostText(text, marks string) error {
	for i, r := range text {
		if !(r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune(marks, r)) {
			_, size := utf8.DecodeRuneInString(text[i:])
			return fmt.Errorf("%q cannot be in a host name", text[i:i+size])
		}
	}
	return nil
}

// expandRanges expands what is between brackets, "1-3,5" or "001-010".
func expandRanges(ranges string) ([]string, error) {
	var numbers []string
	for r := range strings.SplitSeq(ranges, ",") {
		first, last, isRange := strings.Cut(r, "-")
		if !isRange {
			last = first
		}
		lo, loErr := hostNumber(first)
		hi, hiErr := hostNumber(last)
		if loErr != nil || hiErr != nil {
			return nil, fmt.Errorf("%s is neither a number nor a range such as 1-3", quoted(r))
		}
		if hi < lo {
			return nil, fmt.Errorf("range %s counts down", quoted(r))
		}
		if hi-lo >= maxRangeHosts {
			return nil, fmt.Errorf("range %s has more than %d hosts", quoted(r), maxRangeHosts)
		}
		if len(numbers)+int(hi-lo) >= MaxHosts {
			return nil, errTooManyHosts
		}
		for n := lo; n <= hi; n++ {
			numbers = append(numbers, fmt.Sprintf("%0*d", len(first), n))
		}
	}
	return numbers, nil
}

// hostNumber reads up to 18 decimal digits, which cannot overflow.
func hostNumber(s string) (uint64, error) {
	if s == "" || len(s) > 18 || strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' }) >= 0 {
		return 0, errors.New("not a number")
	}
	return strconv.ParseUint(s, 10, 64)
}

// Hostlist writes host names as one hostlist, sorted and each once: the opposite of
// ExpandHostlist. Only numbers at the end of names are put into brackets: "c[01-03,05]".
func Hostlist(hosts []string) string {
	type host struct {
		prefix        string
		width, number int // width 0: no number
	}
	parsed := make([]host, len(hosts))
	for i, name := range hosts {
		prefix := strings.TrimRight(name, "0123456789")
		digits := name[len(prefix):]
		number, err := strconv.Atoi(digits)
		if err != nil || len(digits) > 9 {
			parsed[i] = host{prefix: name}
			continue
		}
		parsed[i] = host{prefix, len(digits), number}
	}
	slices.SortFunc(parsed, func(a, b host) int {
		return cmp.Or(cmp.Compare(a.prefix, b.prefix), cmp.Compare(a.width, b.width), cmp.Compare(a.number, b.number))
	})
	parsed = slices.Compact(parsed)
	var items []string
	for i := 0; i < len(parsed); {
		first := parsed[i]
		if first.width == 0 {
			items = append(items, first.prefix)
			i++
			continue
		}
		var ranges []string
		count := 0
		for i < len(parsed) && parsed[i].prefix == first.prefix && parsed[i].width == first.width {
			from, last := i, i
			for last+1 < len(parsed) && parsed[last+1] == (host{first.prefix, first.width, parsed[last].number + 1}) {
				last++
			}
			text := fmt.Sprintf("%0*d", first.width, parsed[from].number)
			if last > from {
				text += fmt.Sprintf("-%0*d", first.width, parsed[last].number)
			}
			ranges = append(ranges, text)
			count += last - from + 1
			i = last + 1
		}
		list := strings.Join(ranges, ",")
		if count > 1 {
			list = "[" + list + "]"
		}
		items = append(items, first.prefix+list)
	}
	return strings.Join(items, ",")
}
