// Command kube is Kubernetes' own programs, and etcd, in one binary: the first
// argument names the program, the rest are that program's own flags.
//
//	kube etcd --data-dir D --listen http://127.0.0.1:2379
//	kube dns -conf Corefile
//	kube kubectl ARGS...
//	kube apiserver|controller-manager|scheduler|kubelet|proxy FLAGS...
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	_ "time/tzdata"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	kcm "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

var programs = map[string]func() *cobra.Command{
	"apiserver":          apiserver.NewAPIServerCommand,
	"controller-manager": kcm.NewControllerManagerCommand,
	"scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
	"kubelet":            func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) },
	"proxy":              func() *cobra.Command { return proxy.NewProxyCommand() },
}

func main() {
	// Also by the name it was called under: a link kubectl -> kube.
	name := strings.TrimPrefix(filepath.Base(os.Args[0]), "kube-")
	if name == "kube" {
		if len(os.Args) < 2 {
			fmt.Fprintln(os.Stderr, "usage: kube PROGRAM FLAGS...")
			os.Exit(2)
		}
		name = strings.TrimPrefix(os.Args[1], "kube-")
		os.Args = append([]string{name}, os.Args[2:]...)
	}
	switch name {
	case "etcd":
		os.Exit(runEtcd(os.Args[1:]))
	case "dns":
		os.Exit(runDNS())
	case "kubectl":
		os.Exit(runKubectl())
	}
	p, ok := programs[name]
	if !ok {
		fmt.Fprintf(os.Stderr, "kube: no program %q\n", name)
		os.Exit(2)
	}
	os.Exit(cli.Run(p()))
}
