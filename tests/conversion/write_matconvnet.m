% Writes networks as MatConvNet saves them, for the tests of its reader; GNU Octave runs it:
%
%   octave-cli --no-init-file write_matconvnet.m NETWORK FOLDER CHANNELS
%
% The structs are laid out as dagnn.DagNN/saveobj and vl_simplenn_tidy describe them. CHANNELS divides the widths of a
% ResNet: 1 for its own ones. Its sections have one block each, and its covariance is of 8 channels.
1;

function value = filters(h, w, in, out)
  value = single(randn(h, w, in, out) * sqrt(2 / (h * w * in)));
end

function value = vector(n)
  value = single(0.2 * randn(n, 1));
end

% ------------------------------------------------------------------------------------------------------------ DagNN

function net = add_layer(net, name, type, block, inputs, outputs, params, values)
  layer = struct('name', name, 'type', type, 'inputs', {inputs}, 'outputs', {outputs}, 'params', {params}, ...
                 'block', block);
  net.layers = [net.layers, layer];
  for i = 1:numel(params)
    net.params = [net.params, struct('name', params{i}, 'value', values{i}, 'learningRate', 1, 'weightDecay', 1)];
  end
  for i = 1:numel(outputs)
    net.vars = [net.vars, struct('name', outputs{i}, 'precious', false)];
  end
end

function net = add_conv(net, input, name, size, in, out, stride, bias, relu)
  params = {[name '_f']};
  values = {filters(size, size, in, out)};
  if strcmp(name, 'conv1')
    values{1} = values{1} / 60;
  end
  if bias
    params{2} = [name '_b'];
    values{2} = vector(out);
  end
  block = struct('size', [size size in out], 'hasBias', bias, 'stride', [stride stride], ...
                 'pad', (size - 1) / 2 * [1 1 1 1], 'dilate', [1 1]);
  block.opts = {'cudnnworkspacelimit', 1234};
  net = add_layer(net, [name '_conv'], 'dagnn.Conv', block, {input}, {[name '_conv']}, params, values);
  block = struct('numChannels', out, 'epsilon', 1e-5);
  block.opts = {'NoCuDNN'};
  deviation = sqrt(0.5 + rand(out, 1) + 1e-5);
  deviation(1) = sqrt(1e-5) * 0.999;
  values = {single(0.5 + rand(out, 1)), vector(out), single([0.2 * randn(out, 1), deviation])};
  values{1}(1) = 0.003;
  net = add_layer(net, [name '_bn'], 'dagnn.BatchNorm', block, {[name '_conv']}, {[name '_bn']}, ...
                  {[name '_bn_w'], [name '_bn_b'], [name '_bn_m']}, values);
  if relu
    block = struct('useShortCircuit', true, 'leak', 0);
    block.opts = {};
    net = add_layer(net, [name '_relu'], 'dagnn.ReLU', block, {[name '_bn']}, {[name '_relu']}, {}, {});
  end
end

function net = empty_dag()
  net = struct('vars', struct('name', {}, 'precious', {}), ...
               'params', struct('name', {}, 'value', {}, 'learningRate', {}, 'weightDecay', {}), ...
               'layers', struct('name', {}, 'type', {}, 'inputs', {}, 'outputs', {}, 'params', {}, 'block', {}), ...
               'meta', struct());
  net.vars(1) = struct('name', 'input', 'precious', false);
end

function net = resnet(channels)
  net = add_conv(empty_dag(), 'input', 'conv1', 7, 3, 64 / channels, 2, true, true);
  block = struct('method', 'max', 'poolSize', [3 3], 'stride', [2 2], 'pad', [1 1 1 1]);
  net = add_layer(net, 'conv1_pool', 'dagnn.Pooling', block, {'conv1_relu'}, {'conv1'}, {}, {});
  last = 'conv1';
  depth = 64 / channels;
  for s = 2:5
    name = sprintf('conv%d_1', s);
    inner = 2^(s + 4) / channels;
    outer = 4 * inner;
    stride = 1 + (s == 3 || s == 4);
    net = add_conv(net, last, [name '_adapt_conv'], 1, depth, outer, stride, false, false);
    net = add_conv(net, last, [name 'a'], 1, depth, inner, 1, false, true);
    net = add_conv(net, [name 'a_relu'], [name 'b'], 3, inner, inner, stride, false, true);
    net = add_conv(net, [name 'b_relu'], [name 'c'], 1, inner, outer, 1, false, false);
    net = add_layer(net, [name '_sum'], 'dagnn.Sum', struct('numInputs', 2), {[name '_adapt_conv_bn'], [name 'c_bn']}, ...
                    {[name '_sum']}, {}, {});
    block = struct('useShortCircuit', true, 'leak', 0);
    net = add_layer(net, [name '_relu'], 'dagnn.ReLU', block, {[name '_sum']}, {name}, {}, {});
    last = name;
    depth = outer;
  end
  net = add_conv(net, last, 'conv_for_cova', 1, depth, 8, 1, true, true);
  block = struct('cudnn', {{'CuDNN'}});
  net = add_layer(net, 'cov_pool', 'dagnn.OBJ_ConvNet_COV_Pool', block, {'conv_for_cova_relu'}, {'cov_pool'}, {}, {});
  net = add_layer(net, 'cov_trace_norm', 'dagnn.OBJ_ConvNet_Cov_TraceNorm', block, {'cov_pool'}, ...
                  {'cov_trace_norm', 'cov_trace_norm_tr'}, {}, {});
  block.coef = 1;
  block.iterNum = 5;
  net = add_layer(net, 'Cov_Sqrtm', 'dagnn.OBJ_ConvNet_Cov_Sqrtm', block, {'cov_trace_norm'}, ...
                  {'Cov_Sqrtm', 'Cov_Sqrtm_Y', 'Cov_Sqrtm_Z'}, {}, {});
  net = add_layer(net, 'Cov_ScaleTr', 'dagnn.OBJ_ConvNet_COV_ScaleTr', struct('cudnn', {{'CuDNN'}}), ...
                  {'Cov_Sqrtm', 'cov_trace_norm_tr'}, {'Cov_ScaleTr'}, {}, {});
  block = struct('size', [1 1 36 5], 'hasBias', true, 'stride', [1 1], 'pad', [0 0 0 0], 'dilate', [1 1]);
  net = add_layer(net, 'prediction', 'dagnn.Conv', block, {'Cov_ScaleTr'}, {'prediction'}, ...
                  {'prediction_f', 'prediction_b'}, {filters(1, 1, 36, 5), vector(5)});
  net.vars(end + 1) = struct('name', 'label', 'precious', false);
  net = add_layer(net, 'loss', 'dagnn.Loss', struct('loss', 'softmaxlog'), {'prediction', 'label'}, {'objective'}, {}, {});
  net = add_layer(net, 'top1error', 'dagnn.Loss', struct('loss', 'classerror'), {'prediction', 'label'}, ...
                  {'top1error'}, {}, {});
  names = {'n02', 'n01', 'n04', 'n03', 'n05'};
  net.meta = metadata(cellfun(@(n) [n '000000'], names, 'UniformOutput', false), single([123; 117; 104]));
end

% What cnn_imagenet_deploy leaves: no losses, a softmax, and normalisations merged into the convolutions.
function net = deployed(net)
  types = {net.layers.type};
  net.layers = net.layers(~strcmp(types, 'dagnn.Loss'));
  for index = find(strcmp({net.layers.type}, 'dagnn.BatchNorm'))
    norm = net.layers(index);
    at = find(strcmp({net.layers.name}, norm.inputs{1}));
    layer = net.layers(at);
    f = find(strcmp({net.params.name}, layer.params{1}));
    [w, b, m] = deal(value_of(net, norm.params{1}), value_of(net, norm.params{2}), value_of(net, norm.params{3}));
    if numel(layer.params) < 2
      net.layers(at).params{2} = [layer.name '_b'];
      net.layers(at).block.hasBias = true;
      net.params(end + 1) = struct('name', [layer.name '_b'], 'value', single(zeros(size(b))), 'learningRate', 1, ...
                                   'weightDecay', 1);
    end
    at = find(strcmp({net.params.name}, net.layers(at).params{2}));
    a = w ./ m(:, 2);
    net.params(f).value = net.params(f).value .* reshape(a, 1, 1, 1, []);
    net.params(at).value = net.params(at).value .* a + b - m(:, 1) .* a;
    for other = 1:numel(net.layers)
      net.layers(other).inputs = strrep(net.layers(other).inputs, norm.outputs{1}, norm.inputs{1});
    end
    net.params = net.params(~ismember({net.params.name}, norm.params));
  end
  net.layers = net.layers(~strcmp({net.layers.type}, 'dagnn.BatchNorm'));
  net = add_layer(net, 'prob', 'dagnn.SoftMax', struct(), {'prediction'}, {'prob'}, {}, {});
end

function value = value_of(net, name)
  value = net.params(strcmp({net.params.name}, name)).value;
end

% --------------------------------------------------------------------------------------------------------- SimpleNN

function layer = simple_conv(name, h, in, out, stride, pad)
  layer = struct('type', 'conv', 'name', name, 'stride', stride, 'pad', pad, 'dilate', 1, 'learningRate', [1 2], ...
                 'weightDecay', [1 0], 'precious', false);
  layer.weights = {filters(h, h, in, out), vector(out)};
  layer.opts = {};
  if in == 3
    layer.weights{1} = layer.weights{1} / 60;
  end
end

function layer = simple_pool(name, size, stride, pad)
  layer = struct('type', 'pool', 'name', name, 'method', 'max', 'pool', [size size], 'stride', stride, 'pad', pad);
end

function layers = with_linear(layers, h, in)
  layers{end + 1} = simple_conv('fc6', h, in, 6, 1, 0);
  layers{end + 1} = struct('type', 'relu', 'name', 'relu6', 'leak', 0);
  layers{end + 1} = struct('type', 'dropout', 'name', 'dropout6', 'rate', 0.5);
  layers{end + 1} = simple_conv('fc7', 1, 6, 5, 1, 0);
  layers{end + 1} = struct('type', 'relu', 'name', 'relu7', 'leak', 0);
  layers{end + 1} = simple_conv('fc8', 1, 5, 4, 1, [0 0 0 0]);
  layers{end + 1} = struct('type', 'softmax', 'name', 'prob');
end

% As the importer of Caffe's networks writes VGG-M: every pool is padded below, and kappa is 2.
function net = vgg_m()
  layers = {};
  rows = {7 3 96 2 0; 5 96 256 2 1; 3 256 512 1 1; 3 512 512 1 1; 3 512 512 1 1};
  for s = 1:5
    [h, in, out, stride, pad] = rows{s, :};
    layers{end + 1} = simple_conv(sprintf('conv%d', s), h, in, out, [stride stride], pad * [1 1 1 1]);
    layers{end + 1} = struct('type', 'relu', 'name', sprintf('relu%d', s), 'leak', 0);
    if s < 3
      layers{end + 1} = struct('type', 'lrn', 'name', sprintf('norm%d', s), 'param', [5 2 1e-4 0.75]);
    end
    if s < 3 || s == 5
      layers{end + 1} = simple_pool(sprintf('pool%d', s), 3, [2 2], [0 1 0 1]);
    end
  end
  net.layers = with_linear(layers, 6, 512);
  net.meta = metadata({'n01000000', 'n02000000', 'n03000000', 'n04000000'}, single(255 * rand(224, 224, 3)));
  net.meta.normalization.interpolation = 'bilinear';
  net.meta.normalization.keepAspect = true;
end

% A VGG-VD with one convolution a stage, in the fields of MatConvNet before 1.0-beta9 and 1.0-beta17.
function net = vgg_vd()
  layers = {};
  widths = [3 64 128 256 512 512];
  for s = 1:5
    layer = simple_conv(sprintf('conv%d_1', s), 3, widths(s), widths(s + 1), 1, 1);
    layer.filters = layer.weights{1};
    layer.biases = layer.weights{2}';
    layers{end + 1} = rmfield(layer, 'weights');
    layers{end + 1} = struct('type', 'relu', 'name', sprintf('relu%d_1', s));
    layers{end + 1} = simple_pool(sprintf('pool%d', s), 2, 2, 0);
  end
  net.layers = with_linear(layers, 7, 512);
  meta = metadata({'b', 'a', 'c', 'd'}, single(reshape([123.68 116.779 103.939], 1, 1, 3)));
  net.normalization = rmfield(meta.normalization, 'cropSize');
  net.normalization.border = [32 32];
  net.normalization.interpolation = 'bicubic';
  net.normalization.keepAspect = false;
  net.classes = meta.classes;
end

function meta = metadata(names, average)
  meta.normalization = struct('imageSize', [224 224 3], 'cropSize', 224 / 256, 'averageImage', average);
  meta.classes.name = names;
  meta.classes.description = cellfun(@(n) ['class ' n ', or so'], names, 'UniformOutput', false);
  meta.trainOpts = struct('learningRate', 0.1 * ones(1, 30), 'batchSize', 256);
end

% ------------------------------------------------------------------------------------------------------------- files

[network, folder, channels] = argv(){:};
randn('seed', 1);
rand('seed', 1);
switch network
  case 'resnet'
    net = resnet(str2double(channels));
    state = struct('epoch', 3);
    save('-v6', fullfile(folder, 'epoch.mat'), 'net', 'state');
    net = deployed(net);
    save('-v7', fullfile(folder, 'deployed.mat'), '-struct', 'net');
  case 'vgg_m'
    net = vgg_m();
    save('-v7', fullfile(folder, 'vgg_m.mat'), '-struct', 'net');
  case 'vgg_vd'
    net = vgg_vd();
    save('-v7', fullfile(folder, 'vgg_vd.mat'), '-struct', 'net');
end
