# kube-proxy with the iptables programs that it runs, and all the libraries that they load.
ARG BASE
FROM ${BASE} AS iptables
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends iptables nftables conntrack
# The extensions are loaded at run time, so they have to be looked at as well as the programs.
RUN mkdir /out && cd /usr/lib/x86_64-linux-gnu \
 && files="/usr/sbin/xtables-nft-multi /usr/sbin/nft /usr/sbin/conntrack $(find /usr/lib/x86_64-linux-gnu/xtables -name '*.so')" \
 && { echo "$files" | tr ' ' '\n'; ldd $files | awk '/=> \// { print $3 } $1 ~ /^\/lib64/ { print $1 }'; } \
  | sort -u | xargs cp -L --parents -t /out \
 && mkdir -p /out/usr/sbin /out/tmp /out/run /out/etc \
 && for name in iptables ip6tables; do for verb in '' -save -restore; do \
      ln -s xtables-nft-multi /out/usr/sbin/$name$verb; done; done \
 && for dir in lib lib64; do [ ! -d /out/$dir ] || { mkdir -p /out/usr/$dir && cp -a /out/$dir/. /out/usr/$dir/ && rm -r /out/$dir && ln -s usr/$dir /out/$dir; }; done

FROM scratch
ENV PATH=/usr/local/bin:/usr/sbin
COPY --from=iptables /out /
COPY kube-proxy /usr/local/bin/
ENTRYPOINT ["/usr/local/bin/kube-proxy"]
