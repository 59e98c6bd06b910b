package slurmconf

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// BurstBuffer is what the bridge needs to know from burst_buffer.conf.
type BurstBuffer struct {
	Path      string   // the file that was read; "" if there was none
	Directive string   // the word after # of a directive line; default: "BB_LUA"
	Flags     []string // as written, "TeardownFailure"; ask with HasFlag

	// How long Slurm lets the hooks run, and how often it asks
	// slurm_bb_test_data_in and _out. Defaults: 300s, 24h, 24h, 15s; no timeout is
	// longer than Slurm's bound of 24 days.
	OtherTimeout    time.Duration
	StageInTimeout  time.Duration
	StageOutTimeout time.Duration
	PollInterval    time.Duration // Slurm 24.05 and later
}

// HasFlag reports whether Flags has a flag. Slurm ignores case.
func (b *BurstBuffer) HasFlag(flag string) bool {
	return slices.ContainsFunc(b.Flags, func(f string) bool { return strings.EqualFold(f, flag) })
}

// ReadBurstBufferConf reads burst_buffer.conf in the directory of slurm.conf or, as Slurm
// does without it, burst_buffer_lua.conf. The result is never nil: what is absent or
// cannot be read has Slurm's default, and the error (one line) is for the log.
func ReadBurstBufferConf(slurmConf string) (*BurstBuffer, error) {
	b := &BurstBuffer{
		Directive:       "BB_LUA",
		OtherTimeout:    300 * time.Second,
		StageInTimeout:  86400 * time.Second,
		StageOutTimeout: 86400 * time.Second,
		PollInterval:    15 * time.Second,
	}
	path := besideSlurmConf(slurmConf, "burst_buffer.conf")
	values, opened, err := readSlurmFile(path)
	if !opened {
		// Slurm takes the second name when the first cannot be opened, whatever
		// the reason.
		second := besideSlurmConf(slurmConf, "burst_buffer_lua.conf")
		secondValues, secondOpened, secondErr := readSlurmFile(second)
		if !secondOpened {
			return b, err
		}
		path, values, err = second, secondValues, secondErr
	}
	b.Path = path
	if word := values["directive"]; word != "" {
		b.Directive = word
	}
	b.Flags = strings.FieldsFunc(values["flags"], func(r rune) bool { return r == ',' })
	for _, t := range []struct {
		key   string
		value *time.Duration
	}{
		{"OtherTimeout", &b.OtherTimeout},
		{"StageInTimeout", &b.StageInTimeout},
		{"StageOutTimeout", &b.StageOutTimeout},
		{"PollInterval", &b.PollInterval},
	} {
		text, ok := values[strings.ToLower(t.key)]
		if !ok {
			continue
		}
		if seconds, numErr := slurmUint32(text); numErr == nil {
			*t.value = min(time.Duration(seconds)*time.Second, maxSlurmTimeout)
		} else if err == nil {
			err = &slurmFileError{path: path, err: fmt.Errorf("%s=%s: %w", t.key, quoted(text), numErr)}
		}
	}
	return b, err
}

// slurmUint32 reads a number as Slurm's s_p_handle_uint32 does.
func slurmUint32(text string) (uint32, error) {
	if strings.EqualFold(text, "UNLIMITED") || strings.EqualFold(text, "INFINITE") {
		return 1<<32 - 1, nil
	}
	n, err := strconv.ParseUint(text, 0, 32)
	if err != nil || strings.Contains(text, "_") {
		return 0, errors.New("not a number of seconds")
	}
	return uint32(n), nil
}
