//go:build !slurmk8s_testhooks

package main

import "slurmk8s.io/slurmk8s/bridge/hook"

var runHook = hook.Run
